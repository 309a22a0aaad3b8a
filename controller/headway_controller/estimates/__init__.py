"""How long tasks run, how long they wait, and how well such sayings held. Pure: time is an argument.

``meta``         what a user says about a task, made harmless: words become a key, numbers become features
``regression``   the mean of log time, by ridge regression with forgetting
``residuals``    the spread around it: a histogram of seen / predicted, and the remaining life given the age
``speeds``       how fast each runtime is, relative to the others
``model``        one target's regression and residuals together
``estimate``     an estimate: expectation, error, quantiles
``predictor``    the :class:`~headway_controller.estimates.predictor.Predictor` protocol and the learned one
``others``       a lookup table, and the caller's own ``server_time_cost``
``calibration``  the scale that makes "90 % start by then" true
``scores``       coverage, bias and mean absolute error of past estimates
"""

from headway_controller.estimates.calibration import Calibration
from headway_controller.estimates.estimate import Estimate
from headway_controller.estimates.others import LookupTablePredictor, ServerTimeCostPredictor
from headway_controller.estimates.predictor import LearnedPredictor, Prediction, Predictor
from headway_controller.estimates.scores import Scores

__all__ = [
    "Calibration",
    "Estimate",
    "LearnedPredictor",
    "LookupTablePredictor",
    "Prediction",
    "Predictor",
    "Scores",
    "ServerTimeCostPredictor",
]
