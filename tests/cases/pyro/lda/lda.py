"""Latent Dirichlet allocation: each word of a document comes from one of its topics."""

import pyro
import pyro.distributions as dist
import torch


def model(words, V, num_topics):
    with pyro.plate("topics", num_topics):
        topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(V) / V))
    with pyro.plate("documents", words.shape[1]):
        doc_topics = pyro.sample("doc_topics", dist.Dirichlet(torch.ones(num_topics)))
        with pyro.plate("positions", words.shape[0]):
            topic = pyro.sample("topic", dist.Categorical(doc_topics))
            pyro.sample("word", dist.Categorical(topic_words[topic]), obs=words)
