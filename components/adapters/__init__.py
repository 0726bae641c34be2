"""The only place that imports a vendor's SDK: one module a vendor, loaded when it is first needed."""
