"""Why two studies are alike: attribution of the cosine of their vectors to the pixels and words of both."""
