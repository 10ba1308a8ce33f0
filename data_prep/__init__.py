"""Makes folders of training crops from photographs."""
