from .compare import compare_atlases as compare_atlases
from .measuring import measure as measure
from .network import AtlasNetwork as AtlasNetwork
from .output import read_scores as read_scores
from .output import write_atlas as write_atlas
from .summary import write_summary as write_summary
