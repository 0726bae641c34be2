"""What starts the lifecycle without a person: a commit on a watched branch, and a call with a token."""
