"""The data-set factory: thousands of sounds whose labels are measured, sound by sound."""
