"""Classification of scenes: predict, train, evaluate, run recipes."""
