"""Pretraining of image encoders on what the reports of training studies say, for `kmm weights pretrain`."""
