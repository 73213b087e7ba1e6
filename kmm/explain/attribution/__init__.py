"""Attribution methods: the contribution of each pixel and each embedding row to a score."""
