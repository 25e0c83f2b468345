"""What a process needs to run on a Ray cluster: the session, tasks, signals and logs."""
