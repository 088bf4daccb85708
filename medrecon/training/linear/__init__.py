"""Any network's layers inverted on the first day: linear maps, fitted in closed form and kept in a cache."""

from medrecon.training.linear.bundle import LOWER_BOUND as LOWER_BOUND
from medrecon.training.linear.bundle import linear_inverse as linear_inverse
from medrecon.training.linear.named import Inverse as Inverse
from medrecon.training.linear.named import Named as Named
from medrecon.training.linear.named import inverse_of as inverse_of
