"""What runs, in which order, and where: DAGs, engines, services and the command line."""
