"""Trainings that are started, watched, and started again from their last checkpoint when they die."""

from medrecon.launch.attempts import Launched as Launched
from medrecon.launch.attempts import launch as launch
from medrecon.launch.plan import Training as Training
from medrecon.launch.plan import held as held
from medrecon.launch.plan import plan_training as plan_training
