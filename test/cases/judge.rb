# frozen_string_literal: true

module Cases
  # The rules by which what came is held against what a case expects.
  module Judge
    # A server that refuses a request for its form answers one of these.
    REFUSALS = [400, 414, 431, 501, 505].freeze

    # a_case: a row of a case file. answers: all that came, in order. closed: whether the server
    # closed the connection.
    def self.met?(a_case, answers, closed)
      case a_case["expect"]
      when "accept" then accepted?(answers)
      when "reject" then rejected?(answers, a_case["answers"], closed)
      when "wait" then answers.none?(&:final?) && !closed
      else within?(answers.first, a_case["expect"], a_case["body"])
      end
    end

    def self.accepted?(answers)
      answers.any?(&:good?) && !REFUSALS.include?(answers.find(&:final?).status)
    end
    private_class_method :accepted?

    def self.rejected?(answers, allowed, closed)
      answers.count(&:good?) <= allowed && (answers.any?(&:bad?) || closed)
    end
    private_class_method :rejected?

    def self.within?(first, ranges, body)
      return false unless first && ranges.any? { |low, high| first.status.between?(low, high) }

      body.nil? || !first.status.between?(200, 299) || first.body == body.encode("ISO-8859-1").b
    end
    private_class_method :within?
  end
end
