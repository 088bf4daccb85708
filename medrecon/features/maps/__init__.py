"""Features as volumes: each layer on its own grid, where it lies in the patient."""

from medrecon.features.maps.components import Components as Components
from medrecon.features.maps.run import FeatureMap as FeatureMap
from medrecon.features.maps.run import FeatureMaps as FeatureMaps
from medrecon.features.maps.run import write_features as write_features
