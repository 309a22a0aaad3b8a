"""How long a task will run: the protocol, and the predictor that learns it from what ran before.

The protocol is what a user's own predictor implements (entry point group ``headway.predictors``). The controller's hot
path does not call :meth:`Predictor.predict` for every task: it asks once for a :class:`Prediction` of what tasks share,
and that refreshes itself when the model has moved.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from headway_controller.estimates.estimate import Estimate
from headway_controller.estimates.meta import Cleaned, clean
from headway_controller.estimates.model import LOG_LIMITS, LONGEST, SHORTEST, Model
from headway_controller.estimates.speeds import Speeds

MAX_MODELS = 4096
MANY_VARIANTS = 8
"""Kinds of words with which a target must have been seen before what is known of all of them is taken for a new one."""
MAX_VARIANTS = 64
"""Combinations of words per target that have a model of their own; with more, words are names and no kinds."""
GUESS = 1.0
"""Seconds expected of the very first task."""
GUESS_FACTOR = 2.0
"""The error of a guess, in units of the guess."""
MEMORY = 50.0
"""Observations that the mean rests on, by the forgetting of the regression."""
MAX_LOGGED = 256
"""Durations of one batch that are looked at one by one; beyond, an even sample."""


@runtime_checkable
class Predictor(Protocol):
    """Times in seconds; ``meta`` is as the user gave it, unchecked."""

    def predict(self, target: str, meta: Mapping[str, Any], runtime: str) -> Estimate: ...

    def remaining(self, estimate: Estimate, age: float) -> Estimate: ...

    def observe(self, target: str, meta: Mapping[str, Any], runtime: str, seconds: float) -> None: ...


class Prediction:
    """What is expected of tasks that share target and ``meta``, at speed 1; :meth:`refresh` keeps it up to date.

    ``mean`` and ``variance`` of the run time in seconds; ``known`` is false while it is a guess; ``doubt``: the standard
    error of the mean, in shares of it.
    """

    __slots__ = (
        "_log",
        "_predictor",
        "_version",
        "cleaned",
        "doubt",
        "known",
        "mean",
        "model",
        "scale",
        "target",
        "variance",
        "x",
    )

    def __init__(self, predictor: LearnedPredictor, target: str, cleaned: Cleaned, model: Model) -> None:
        self._predictor = predictor
        self.target = target
        self.cleaned = cleaned
        self.model = model
        self.x = model.vector(cleaned.numbers)
        self._version = -1
        self._log = 0.0
        self.scale = self.mean = GUESS
        self.variance = (GUESS_FACTOR * GUESS) ** 2
        self.known = False
        self.doubt = GUESS_FACTOR
        self.refresh()

    def refresh(self) -> None:
        """Take over what the model has learned since; a comparison of two integers when it has not."""
        model = self.model
        if model.version == self._version:
            return
        model = self.model = self._predictor.model_of(self.target, self.cleaned)
        self._version = model.version
        if not model.known:
            self.mean = self.scale = self._predictor.guess(self.target)
            self.variance = (GUESS_FACTOR * self.mean) ** 2
            self.known = False
            self.doubt = GUESS_FACTOR
            return
        if len(self.x) != model.regression.size:
            self.x = model.vector(self.cleaned.numbers)
        self.scale = scale = math.exp(model.log_scale(self.x))
        residuals = model.residuals
        self.mean = min(scale * residuals.mean, LONGEST)
        self.variance = scale * scale * residuals.variance
        self.doubt = math.sqrt(residuals.variance / min(max(residuals.observed(), 1.0), MEMORY)) / residuals.mean
        self.known = self._predictor.speaks_for(model, self.target, self.cleaned)

    def remaining(self, age: float) -> tuple[float, float]:
        """Mean and variance of what is left of a task that has run ``age`` seconds at speed 1."""
        if age <= 0.0:
            return self.mean, self.variance
        if not self.known:
            # The guess until it is over, then as long again.
            left = max(self.mean - age, age) if age > self.mean else self.mean
            return left, (GUESS_FACTOR * left) ** 2
        mean, variance = self.model.residuals.remaining(age / self.scale)
        return mean * self.scale, variance * self.scale * self.scale

    def quantile(self, p: float, age: float = 0.0) -> float:
        """Seconds of the whole run at speed 1 not exceeded with probability ``p``, given that it has run ``age``."""
        if not self.known:
            return Estimate(self.mean, math.sqrt(self.variance)).quantile(p)
        return self.model.residuals.quantile(p, age / self.scale) * self.scale

    def observe_many(self, runtime: str, durations: Sequence[float]) -> None:
        """Attempts of these tasks took so many seconds on that runtime."""
        self._predictor.observe_cleaned(self.target, self.cleaned, runtime, durations)


class LearnedPredictor:
    """Learns from every attempt that succeeded. Holds no clock and does no input or output."""

    def __init__(self) -> None:
        self.speeds = Speeds()
        self._models: OrderedDict[tuple[str, tuple[tuple[str, str], ...]], Model] = OrderedDict()
        self._variants: dict[str, int] = {}
        self._pooled_log = math.log(GUESS)
        self._pooled_count = 0
        self.refused_meta = 0
        """Entries of ``meta`` that could not be used."""
        self.refused_durations = 0
        """Durations that were negative, not finite, or beyond ten years."""

    # ------------------------------------------------------------------------------------------ asking

    def prepare(self, target: str, meta: Mapping[str, Any]) -> Prediction:
        """What is expected of tasks of that target and ``meta``, at speed 1."""
        return self.prepare_cleaned(target, clean(meta))

    def prepare_cleaned(self, target: str, cleaned: Cleaned) -> Prediction:
        self.refused_meta += cleaned.refused
        return Prediction(self, target, cleaned, self.model_of(target, cleaned))

    def predict(self, target: str, meta: Mapping[str, Any], runtime: str) -> Estimate:
        prediction = self.prepare(target, meta)
        speed = self.speeds.of(runtime)
        return Estimate(
            prediction.mean / speed,
            math.sqrt(prediction.variance) / speed,
            prediction.known,
            "" if prediction.known else f"fewer than three attempts of {target[:200]} have ended",
            (lambda p: prediction.quantile(p) / speed) if prediction.known else None,
            prediction,
            speed,
        )

    def remaining(self, estimate: Estimate, age: float) -> Estimate:
        """The estimate of what is left after ``age`` seconds of running."""
        prediction, speed = estimate.source, estimate.scale
        if not isinstance(prediction, Prediction):
            left = max(estimate.expectation - age, age if age > estimate.expectation else 0.0)
            return Estimate(left, max(estimate.error, left), estimate.known, estimate.why)
        age = age if math.isfinite(age) and age > 0.0 else 0.0
        mean, variance = prediction.remaining(age * speed)

        def quantile(p: float) -> float:
            return max(prediction.quantile(p, age * speed) / speed - age, 0.0)

        return Estimate(
            mean / speed,
            math.sqrt(variance) / speed,
            estimate.known,
            estimate.why,
            quantile if prediction.known else None,
        )

    def guess(self, target: str) -> float:
        """Seconds expected of a kind of task that nobody has seen: as this target, else as all targets together."""
        pooled = self._models.get((target, ()))
        if pooled is not None and pooled.known:
            return min(math.exp(min(pooled.regression.beta[0], 19.0)) * pooled.residuals.mean, LONGEST)
        return math.exp(self._pooled_log) if self._pooled_count else GUESS

    # ------------------------------------------------------------------------------------------ learning

    def observe(self, target: str, meta: Mapping[str, Any], runtime: str, seconds: float) -> None:
        self.observe_many(target, meta, runtime, (seconds,))

    def observe_many(self, target: str, meta: Mapping[str, Any], runtime: str, durations: Sequence[float]) -> None:
        """Fold in a batch: attempts of equal target and ``meta`` on one runtime."""
        self.observe_cleaned(target, clean(meta), runtime, durations)

    def observe_cleaned(self, target: str, cleaned: Cleaned, runtime: str, durations: Sequence[float]) -> None:
        if len(durations) > MAX_LOGGED:
            durations = durations[:: len(durations) // MAX_LOGGED + 1]
        log = math.log
        logs = [log(seconds if seconds > SHORTEST else SHORTEST) for seconds in durations if 0.0 <= seconds <= LONGEST]
        self.refused_durations += len(durations) - len(logs)
        if not logs:
            return
        log_speed = self.speeds.log_of(runtime)
        self._pool(logs, log_speed)
        model = self._model_for(target, cleaned)
        ratio = model.observe(cleaned.numbers, logs, log_speed)
        if ratio:
            self.speeds.observe(runtime, ratio, model.spread, len(logs))
        if cleaned.words and model is not self._models.get((target, ())):
            self._model_for(target, Cleaned((), cleaned.numbers, 0)).observe(cleaned.numbers, logs, log_speed)

    def _pool(self, logs: Sequence[float], log_speed: float) -> None:
        self._pooled_count += len(logs)
        mean = sum(logs) / len(logs) + log_speed
        gain = max(len(logs) / self._pooled_count, 0.01)
        self._pooled_log += gain * (min(max(mean, LOG_LIMITS[0]), LOG_LIMITS[1]) - self._pooled_log)

    def model_of(self, target: str, cleaned: Cleaned) -> Model:
        """The model to predict by: of these words if it knows enough, else of the target as a whole."""
        model = self._model_for(target, cleaned)
        if not model.known and cleaned.words:
            whole = self._models.get((target, ()))
            if whole is not None and whole.known:
                return whole
        return model

    def speaks_for(self, model: Model, target: str, cleaned: Cleaned) -> bool:
        """Whether the model knows tasks of these words: its own does; that of the target as a whole only if the target
        comes in so many variants that what they have in common was seen. Of two methods, one says nothing of the other."""
        return model is self._models.get((target, cleaned.words)) or self._variants.get(target, 0) >= MANY_VARIANTS

    def _model_for(self, target: str, cleaned: Cleaned) -> Model:
        words = cleaned.words
        key = (target, words)
        model = self._models.get(key)
        if model is not None:
            return model
        if words:
            seen = self._variants.get(target, 0)
            if seen >= MAX_VARIANTS:
                return self._model_for(target, Cleaned((), cleaned.numbers, 0))
            self._variants[target] = seen + 1
        while len(self._models) >= MAX_MODELS:
            (oldest, oldest_words), _ = self._models.popitem(last=False)
            if oldest_words:
                self._variants[oldest] -= 1
        model = self._models[key] = Model()
        return model

    # ------------------------------------------------------------------------------------------ keeping

    def to_state(self) -> dict[str, Any]:
        """Plain data: what was learned, to be stored with the controller."""
        return {
            "version": 1,
            "models": [
                [target, [list(pair) for pair in words], model.to_state()]
                for (target, words), model in self._models.items()
            ],
            "speeds": self.speeds.to_state(),
            "pooled": [self._pooled_log, self._pooled_count],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LearnedPredictor:
        """Raises ValueError when the state is none: learning then starts anew, which is a choice for the caller."""
        made = cls()
        try:
            if state["version"] != 1:
                raise ValueError(f"the stored estimates are of version {state['version']}; expected 1")
            for target, words, model in state["models"]:
                key = (str(target), tuple((str(name), str(word)) for name, word in words))
                made._models[key] = Model.from_state(model)
                if key[1]:
                    made._variants[key[0]] = made._variants.get(key[0], 0) + 1
            made.speeds = Speeds.from_state(state["speeds"])
            made._pooled_log, made._pooled_count = float(state["pooled"][0]), int(state["pooled"][1])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"the stored estimates cannot be read: {error!r}") from error
        return made
