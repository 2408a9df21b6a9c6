#!/bin/sh
# Make a Python 3.11 environment with pystem 0.0.26, the reference that the benchmarks compare with.
#
#   benchmarks/pystem_env.sh FOLDER            (PYTHON=/usr/bin/python3.11 names another interpreter)
#
# pystem (GPL-3) was last released in 2021: it needs numpy.distutils, hence numpy < 2 and setuptools < 60, a C compiler,
# the headers of Python 3.11 and those of FFTW. It lives in its own environment, and gpuseg never imports it.
set -eu

folder=${1:?usage: benchmarks/pystem_env.sh FOLDER}
python=${PYTHON:-python3.11}

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "pystem_env: '$python' is not Python 3.11; install it or name one: PYTHON=/path/to/python3.11 $0 $folder" >&2
    exit 2
}
header=$("$python" -c 'import os, sysconfig; print(os.path.join(sysconfig.get_paths()["include"], "Python.h"))')
[ -f "$header" ] || {
    echo "pystem_env: $header is missing; run: apt-get install python3.11-dev" >&2
    exit 2
}
if ! echo '#include <fftw3.h>' | "${CC:-cc}" -E - >/dev/null 2>&1; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "pystem_env: fftw3.h is missing (or no C compiler); run: apt-get install build-essential libfftw3-dev" >&2
        exit 2
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends build-essential libfftw3-dev
fi

"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet "pip<25" "setuptools<60" wheel "numpy==1.26.4"
"$folder/bin/python" -m pip install --quiet "scipy==1.13.1" "scikit-learn==1.5.2" "threadpoolctl>=3"
"$folder/bin/python" -m pip install --quiet --no-build-isolation --no-deps "pystem==0.0.26"
"$folder/bin/python" -W ignore -c "import pystem"   # a build that does not load is found here, not in the middle of a run
"$folder/bin/python" -m pip list --format=freeze | grep -i -E '^(pystem|numpy|scipy|scikit-learn)='
