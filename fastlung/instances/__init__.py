"""Instances that can be rented: what each has and costs, every figure with source and date."""
