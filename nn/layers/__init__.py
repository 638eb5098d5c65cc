"""The layers, by the kind of thing they do."""

from .activation import *
from .attention import *
from .container import *
from .conv import *
from .crf import *
from .dropout import *
from .grid import *
from .linear import *
from .loss import *
from .neuron import *
from .normalization import *
from .pooling import *
from .recurrence import *
from .recurrent import *
from .reshape import *
from .sparse import *
from .tree import *
