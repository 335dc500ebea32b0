"""Makes candidates: a data set and a job go to a trainer, a model comes back and is tested."""
