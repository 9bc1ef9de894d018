"""The Segment Editor effect "Lung lobes"."""
