"""What a step minimises: distances of pictures, of features, and their weighted sum."""

from edgesr.training.losses.features import FeatureAdapter, affinity
from edgesr.training.losses.pictures import distance, frequency
from edgesr.training.losses.step import Made, StepLoss

__all__ = ["FeatureAdapter", "Made", "StepLoss", "affinity", "distance", "frequency"]
