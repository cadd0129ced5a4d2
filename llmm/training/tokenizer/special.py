"""Special tokens: their ids are their places here, the lowest of every vocabulary."""

END_OF_TEXT = "<|endoftext|>"  # stands before every document; beginning of a text
PAD = "<|pad|>"
END = "<|end|>"  # end of a turn
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
SYSTEM = "<|system|>"
CONTEXT = "<|context|>"  # retrieved passages before a question
TOOL_CALL = "<|tool_call|>"
TOOL_RESULT = "<|tool_result|>"
QUERY = "<|query|>"  # the encoder reads a query
DOCUMENT = "<|document|>"  # the encoder reads a document

SPECIAL_TOKENS = (
    END_OF_TEXT,
    PAD,
    END,
    USER,
    ASSISTANT,
    SYSTEM,
    CONTEXT,
    TOOL_CALL,
    TOOL_RESULT,
    QUERY,
    DOCUMENT,
)

# A conversation: every turn is a role token, its text and <|end|>. After a question or a tool's answer the model itself
# says <|assistant|> or <|tool_call|>, so there is no generation prompt; `generation` marks what it says.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{%- generation -%}
{%- if message.content or not message.tool_calls -%}
<|assistant|>{{ message.content }}<|end|>
{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{%- set call = call.function if call.function else call -%}
<|tool_call|>{"name":{{ call.name | tojson }},"arguments":
{%- if call.arguments is string -%}
{{ call.arguments }}
{%- else -%}
{{ call.arguments | tojson(separators=(',', ':')) }}
{%- endif -%}
}<|end|>
{%- endfor -%}
{%- endgeneration -%}
{%- elif message.role == 'tool' -%}
<|tool_result|>{{ message.content }}<|end|>
{%- elif message.role in ('user', 'system', 'context') -%}
<|{{ message.role }}|>{{ message.content }}<|end|>
{%- else -%}
{{ raise_exception('role ' ~ message.role ~ ': expected system, context, user, assistant or tool') }}
{%- endif -%}
{%- endfor -%}
"""
