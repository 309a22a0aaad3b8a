"""The four dicts of the document, for the tests that commit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SEED = Path(__file__).parents[2] / "data" / "seed_vmseries.csv"
KEY = "('asiasoutheast', 'FS')"


def configs(number: int | str, **changes: Any) -> dict[str, dict[str, Any]]:
    """The document's own job, its two typing errors repaired, with changes to its parameter."""
    params = {
        "name": "lastest_n",
        "description": "the lastest n values for prediction",
        "value": None,
        "searcher": {
            "package": "hyperopt",
            "search_times": 100,
            "criterion": {"name": "mse", "description": "mean square error"},
        },
        "searcher_config": {"range": [1, 10], "distribution": "uniform"},
    }
    return {
        "data_config": {"path": str(SEED)},
        "job_config": {"job_id": number, "groupby_indexs": [0, 1], "target_index": 3, "ts_index": 2},
        "series_config": {"feature_indexs": {KEY: []}},
        "model_config": {KEY: {"model_name": "MaxNModel", "model_params": params | changes, "model_performance": []}},
    }
