"""A model that is ready to train, set up the way the notes recommend, searched and joined."""

from kerasdl.defaults.configuration import DefaultConfiguration
from kerasdl.defaults.default_model import default_model
from kerasdl.defaults.ensemble import ensemble
from kerasdl.defaults.hyper_model import hyper_model

__all__ = ["DefaultConfiguration", "default_model", "ensemble", "hyper_model"]
