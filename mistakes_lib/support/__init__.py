"""What every room may use: checks, storage, devices, progress; it knows nothing of the subject."""
