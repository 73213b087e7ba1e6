"""Attribution of the similarity of two studies, the cosine of their vectors, to the pixels and words of both."""
