"""M1: logistic regression, every formula derived in the README and written out in NumPy.

Read in this order: stable, binary, multinomial, iterates, descent, newton, lbfgs, curvature, separation, calibration.
"""
