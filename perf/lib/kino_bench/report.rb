# frozen_string_literal: true

require "json"

module KinoBench
  # What was measured, as a table of medians with their ratio to the first server, and as JSON.
  class Report
    Column = Data.define(:key, :title, :scale, :digits)

    COLUMNS = [
      Column.new(key: :requests_per_second, title: "req/s", scale: 1, digits: 0),
      Column.new(key: :cpu_us, title: "CPU us/req", scale: 1, digits: 2),
      Column.new(key: :p50_us, title: "p50 ms", scale: 1e-3, digits: 2),
      Column.new(key: :p99_us, title: "p99 ms", scale: 1e-3, digits: 2),
      Column.new(key: :pss_bytes, title: "PSS MB", scale: 1e-6, digits: 1),
      Column.new(key: :idle_pss_bytes, title: "PSS B/idle", scale: 1, digits: 0),
      Column.new(key: :idle_rss_bytes, title: "RSS B/idle", scale: 1, digits: 0)
    ].freeze

    def self.median(values)
      sorted = values.sort
      (sorted[(sorted.size - 1) / 2] + sorted[sorted.size / 2]) / 2.0
    end

    # rounds: by server name. header: lines that say where and how it was measured.
    def initialize(rounds, header)
      @rounds = rounds
      @header = header
    end

    def medians
      @medians ||= @rounds.transform_values do |rounds|
        columns.to_h { |column| [column.key, self.class.median(rounds.map(&column.key))] }
      end
    end

    # To the first server; nil where that one's median is zero.
    def ratios
      first = medians.values.first
      medians.transform_values do |own|
        own.to_h { |key, value| [key, first[key].zero? ? nil : value / first[key]] }
      end
    end

    # By server, the errors of all rounds by kind; servers without any are left out.
    def errors
      sums = @rounds.transform_values do |rounds|
        rounds.map(&:errors).reduce { |sum, more| sum.merge(more) { |_, a, b| a + b } }
      end
      sums.reject { |_, counts| counts.empty? }
    end

    def table
      width = @rounds.keys.map(&:size).max
      title = columns.map { _1.title.rjust(12) + "".rjust(7) }.join
      lines = @rounds.keys.map { |name| name.ljust(width) + columns.map { cell(name, _1) }.join }
      ["".ljust(width) + title.rstrip, *lines, *error_lines].join("\n")
    end

    def json
      JSON.pretty_generate(
        header: @header,
        servers: @rounds.map do |name, rounds|
          { name:, medians: medians[name], ratios: ratios[name], rounds: rounds.map(&:to_h) }
        end
      )
    end

    private

    # Those that were measured.
    def columns
      @columns ||= COLUMNS.reject { |column| @rounds.values.flatten.map(&column.key).any?(nil) }
    end

    def cell(name, column)
      value = medians[name][column.key] * column.scale
      ratio = ratios[name][column.key]
      format("%12.#{column.digits}f %6s", value, ratio ? format("%.2f", ratio) : "-")
    end

    def error_lines
      errors.map do |name, counts|
        "#{name}: errors: #{counts.map { |kind, count| "#{kind} #{count}" }.join(', ')}"
      end
    end
  end
end
