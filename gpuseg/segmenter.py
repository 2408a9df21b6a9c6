"""Segmentation as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from gpuseg.segmentation import Segmentation, segment

__all__ = ["Segmenter"]


class Segmenter(BaseEstimator):
    """`gpuseg.segment` in scikit-learn's manners: parameters first, then ``fit``, then ``predict``.

    Parameters
    ----------
    n_patterns : int or "auto"
    descriptor : descriptor, str, or list of them, optional
    stride : int or "auto"
    n_components : int or float
    upsampling : bool
    sort_labels_by_pattern_size : bool
    random_state : int, numpy.random.RandomState or None
    device : {"auto", "cpu", "cuda", "cuda:i"}
    max_memory : int or str, optional
        All as in `gpuseg.segment`, and looked at when fitting, not before.

    Attributes
    ----------
    segmentation_ : Segmentation
        Of the image fitted on.
    model_ : SegmentationModel
        What was learnt.
    """

    def __init__(
        self,
        n_patterns: int | str = 2,
        *,
        descriptor: Any = None,
        stride: int | str = 5,
        n_components: int | float = 5,
        upsampling: bool = True,
        sort_labels_by_pattern_size: bool = True,
        random_state: Any = None,
        device: Any = "auto",
        max_memory: int | str | None = None,
    ) -> None:
        self.n_patterns = n_patterns
        self.descriptor = descriptor
        self.stride = stride
        self.n_components = n_components
        self.upsampling = upsampling
        self.sort_labels_by_pattern_size = sort_labels_by_pattern_size
        self.random_state = random_state
        self.device = device
        self.max_memory = max_memory

    def fit(self, image: Any, mask: Any = None) -> Segmenter:
        """Segment an image and keep what was learnt.

        Parameters
        ----------
        image : (H, W) array_like
        mask : (H, W) array_like of bool, optional

        Returns
        -------
        Segmenter
            Itself.
        """
        self.segmentation_ = segment(image, mask=mask, **self.get_params(deep=False))
        self.model_ = self.segmentation_.model
        return self

    def predict(self, image: Any, mask: Any = None) -> Segmentation:
        """Label another image with the patterns of the one fitted on.

        Parameters
        ----------
        image : (H, W) array_like
        mask : (H, W) array_like of bool, optional

        Returns
        -------
        Segmentation
        """
        check_is_fitted(self, "model_")
        return self.model_.predict(image, mask=mask, device=self.device, max_memory=self.max_memory)
