set -o pipefail
cd -- {{ job.folder }} || exit 2
{% if launch.modules %}
if ! type module > /dev/null 2>&1; then . /etc/profile; fi
{% for name in launch.modules %}
module load {{ name }} || exit 2
{% endfor %}
{% endif %}
{% for name, value in launch.environment.items() %}
export {{ name | plain }}={{ value }}
{% endfor %}
{% for name, file in launch.secrets.items() %}
{% if file %}
{{ name | plain }}="$(cat -- {{ file }})" || exit 2
export {{ name | plain }}
{% else %}
[ -n "${{ '{' | plain }}{{ name | plain }}-}" ] || { echo "launch.secrets.{{ name | plain }}: the variable is not set here; set it, or name a file that holds it" >&2; exit 2; }
{% endif %}
{% endfor %}
