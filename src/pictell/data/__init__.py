"""Pictures and captions in: readers, checks, tokenisers, transforms, batches."""
