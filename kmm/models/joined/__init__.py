"""Image sides made of several parts: views of a film, members with encoders of their own, the mean of their heads."""
