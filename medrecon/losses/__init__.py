"""Losses: L1 and MSE are torch's; here is what it lacks, and the sum that logs each of its terms."""

from medrecon.losses.adversarial import DiscriminatorLoss, GeneratorLoss
from medrecon.losses.features import FeatureConsistencyLoss, FeatureLoss, PerceptualLoss
from medrecon.losses.pixel import CharbonnierLoss, PSNRLoss
from medrecon.losses.structural import MSSSIMLoss, SpectralLoss, SSIMLoss
from medrecon.losses.weighted import LogTerms, WeightedSum

__all__ = [
    "CharbonnierLoss",
    "DiscriminatorLoss",
    "FeatureConsistencyLoss",
    "FeatureLoss",
    "GeneratorLoss",
    "LogTerms",
    "MSSSIMLoss",
    "PSNRLoss",
    "PerceptualLoss",
    "SSIMLoss",
    "SpectralLoss",
    "WeightedSum",
]
