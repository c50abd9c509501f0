"""Loads and runs onebit files; needs numpy and safetensors, never PyTorch."""

from onebit.runtime.model import Model as Model
from onebit.runtime.model import load as load
