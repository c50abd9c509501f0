"""Loads and runs onebit files; needs numpy, never PyTorch."""

from onebit.runtime.inputs import Floats as Floats
from onebit.runtime.inputs import Image as Image
from onebit.runtime.inputs import Tokens as Tokens
from onebit.runtime.model import Model as Model
from onebit.runtime.model import load as load
