"""What runs: settings, wiring, tasks, processes and the command line."""
