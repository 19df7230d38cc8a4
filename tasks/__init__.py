"""SeqIO tasks over the records that `data_pipelines` writes."""
