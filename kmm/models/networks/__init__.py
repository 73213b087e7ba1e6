"""Networks of image encoders: from a scaled film to a feature map, built of Keras layers."""
