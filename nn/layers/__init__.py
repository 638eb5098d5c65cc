"""The layers, by the kind of thing they do."""

from .activation import *
from .container import *
from .conv import *
from .dropout import *
from .linear import *
from .loss import *
from .neuron import *
from .normalization import *
from .pooling import *
from .reshape import *
from .sparse import *
