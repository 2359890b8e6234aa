"""One run of a job: lifecycle, what is given out, what came back, how it goes and how it ended."""
