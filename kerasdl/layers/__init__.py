"""Layers of the notes."""

from kerasdl.layers.affine import Affine
from kerasdl.layers.batch_normalization import BatchNormalization
from kerasdl.layers.centered_weight_normalization import CenteredWeightNormalization
from kerasdl.layers.dropout import Dropout
from kerasdl.layers.gaussian_noise import GaussianNoise
from kerasdl.layers.monte_carlo import predict_mc
from kerasdl.layers.pca import PCA
from kerasdl.layers.population_statistics import estimate_population_statistics
from kerasdl.layers.replace_batch_normalization import replace_batch_normalization
from kerasdl.layers.spatial_dropout import SpatialDropout1D, SpatialDropout2D, SpatialDropout3D
from kerasdl.layers.standardization import Standardization
from kerasdl.layers.weight_noise import WeightNoise
from kerasdl.layers.whitening import Whitening

__all__ = [
    "PCA",
    "Affine",
    "BatchNormalization",
    "CenteredWeightNormalization",
    "Dropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "Standardization",
    "WeightNoise",
    "Whitening",
    "estimate_population_statistics",
    "predict_mc",
    "replace_batch_normalization",
]
