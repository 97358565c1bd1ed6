"""What is measured and written down about the engine at work. Imports nothing of it but the outcomes' words."""
