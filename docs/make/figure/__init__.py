"""Pictures of architectures, drawn from what a model computes: its modules, what goes where, at what size."""
