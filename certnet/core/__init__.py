"""What every other part stands on and no mathematics is in: errors, outcomes, files, decimals, validation."""
