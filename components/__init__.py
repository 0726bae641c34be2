"""The steps of the lifecycle and the adapters they stand on. Imports neither Prefect nor KFP."""
