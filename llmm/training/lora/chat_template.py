"""How `transformers` and llama.cpp write a conversation for the assistant: what its `ChatCodec` does, in Jinja.

The tokenizer's own template (llmm/training/tokenizer/special.py) is that of a model which has not been tuned yet.
"""

# Arguments are a mapping, as `transformers` has them; given as a string they cannot be taken apart here and stay JSON.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{%- generation -%}
{%- if message.content or not message.tool_calls -%}
<|assistant|> {{ message.content }}<|end|>
{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{%- set call = call.function if call.function else call -%}
<|tool_call|> {% if call.arguments is string -%}
{"name":{{ call.name | tojson }},"arguments":{{ call.arguments }}}
{%- else -%}
{%- set first = call.arguments.values() | list -%}
{%- if first | length == 1 and first[0] is string -%}
{%- set argument = (call.arguments.keys() | list)[0] -%}
{{ call.name }} {{ argument }} {% if argument == 'code' -%}
{%- for part in first[0].split("'") -%}
{{ "'" if not loop.first else "" }}{{ " " if loop.index0 % 2 == 1 and not loop.last else "" }}{{ part }}
{%- endfor -%}
{%- else -%}
{{ first[0] }}
{%- endif -%}
{%- else -%}
{"name":{{ call.name | tojson }},"arguments":{{ call.arguments | tojson(separators=(',', ':')) }}}
{%- endif -%}
{%- endif -%}
<|end|>
{%- endfor -%}
{%- endgeneration -%}
{%- elif message.role == 'tool' -%}
<|tool_result|> {{ message.content }}<|end|>
{%- elif message.role == 'user' -%}
<|user|>{{ (' ' ~ message.content).replace(" '", " ' ").replace("('", "(' ") }}<|end|>
{%- elif message.role in ('system', 'context') -%}
<|{{ message.role }}|> {{ message.content }}<|end|>
{%- else -%}
{{ raise_exception('role ' ~ message.role ~ ': expected system, context, user, assistant or tool') }}
{%- endif -%}
{%- endfor -%}
"""
