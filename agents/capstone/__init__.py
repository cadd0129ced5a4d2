"""The capstone: what carries the built assistant out of the project, and what keeps it from getting worse."""
