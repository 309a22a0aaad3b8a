"""headway's trainer: hyper-parameter search and forecasts of many series, as tasks on the bus. docs/trainer.md."""
