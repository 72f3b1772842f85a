"""The attention blocks, each against its formula."""

from __future__ import annotations

import torch
from torch import nn

from models.attention import AttentionPooling, MultiHeadAttention, TokenDropout


def test_attention_equals_its_formula_with_and_without_weights() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, num_heads=2)
    queries, context = torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    mask = torch.tensor([[True, True, True, True], [True, False, True, False]])
    fused, nothing = attention(queries, context, mask)
    written_out, weights = attention(queries, context, mask, need_weights=True)
    reference = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        both = (attention.query, attention.key_value)
        reference.in_proj_weight.copy_(torch.cat([layer.weight for layer in both]))
        reference.in_proj_bias.copy_(torch.cat([layer.bias for layer in both]))
        reference.out_proj.load_state_dict(attention.out.state_dict())
    expected, expected_weights = reference(
        queries, context, context, key_padding_mask=~mask, average_attn_weights=False
    )
    assert nothing is None
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(written_out, expected)
    torch.testing.assert_close(weights, expected_weights)


def test_a_set_without_a_valid_element_is_pooled_to_zero_not_nan() -> None:
    pooled, weights = AttentionPooling(8, num_heads=2)(
        torch.randn(1, 3, 8), torch.zeros(1, 3, dtype=torch.bool)
    )
    assert pooled.eq(0).all()
    assert weights.eq(0).all()


def test_token_dropout_leaves_out_the_same_features_of_all_tokens() -> None:
    torch.manual_seed(0)
    dropout = TokenDropout(0.5)
    tokens = torch.ones(4, 6, 32)
    thinned = dropout(tokens)
    assert set(thinned.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(thinned, thinned[:, :1].expand_as(thinned))
    assert not torch.equal(thinned[0], thinned[1])
    assert torch.equal(dropout.eval()(tokens), tokens)


def test_queries_without_a_context_look_at_each_other() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, num_heads=2)
    tokens, towards = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    found = []
    for context in ((), (tokens,)):
        attention.zero_grad()
        mixed, _ = attention(tokens, *context)
        mixed.backward(towards)
        found.append((mixed, [parameter.grad for parameter in attention.parameters()]))
    torch.testing.assert_close(found[0], found[1])


def test_each_head_of_the_pooling_weighs_its_own_share_of_the_features() -> None:
    torch.manual_seed(0)
    elements = torch.randn(3, 5, 8)
    pooled, weights = AttentionPooling(8, num_heads=2)(elements)
    shares = [weights[:, head, :, None] * elements[..., 4 * head :][..., :4] for head in (0, 1)]
    torch.testing.assert_close(pooled, torch.cat([share.sum(1) for share in shares], dim=-1))


def test_adding_thinned_tokens_is_thinning_and_adding() -> None:
    dropout, tokens, residual = TokenDropout(0.5), torch.randn(4, 6, 8), torch.randn(4, 6, 8)
    for training in (True, False):
        dropout.train(training)
        torch.manual_seed(0)
        expected = residual + dropout(tokens)
        torch.manual_seed(0)
        torch.testing.assert_close(dropout.add(residual, tokens), expected)
