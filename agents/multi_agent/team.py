"""The team over what the pipeline made: `run_team("what is 12 times 7, and where does json.loads live?")`."""

from agents.multi_agent.budget import Budget
from agents.multi_agent.crew import Crew
from agents.multi_agent.planner_workers import PlannerWorkers
from agents.multi_agent.transcript import Transcript
from agents.tool_agent.agent import load_agent
from agents.tool_agent.loop import Limits


def run_team(message: str, tokens: int = 6000, calls: int = 12, limits: Limits | None = None) -> Transcript:
    """Do what `message` asks with the tuned model as planner and as workers, under one budget for all of them.

    Raises UserError where an artifact is missing, damaged or does not belong to the others.
    """
    agent = load_agent()
    crew = Crew(agent.policy.model, agent.policy.codec, limits or Limits(), beams=agent.policy.beams)
    transcript = Transcript(message, Budget(tokens, calls))
    PlannerWorkers(crew, agent.tools)([transcript])
    return transcript
