"""Trainings that are started, watched, and started again from their last checkpoint when they die."""

from medrecon.training.launch.attempts import Launched as Launched
from medrecon.training.launch.attempts import launch as launch
from medrecon.training.launch.job import Training as Training
from medrecon.training.launch.job import plan_training as plan_training
