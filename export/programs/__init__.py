"""What a file is compared with: models, run in their own precision and in float64."""
